//! Reports a panic, such as one of a dependency, as a fault of the fetcher.

use std::sync::Mutex;

use crate::common::fault::Fault;

/// What the fetcher does now.
static STEP: Mutex<String> = Mutex::new(String::new());

pub fn set_step(step: &str) {
    if let Ok(mut current) = STEP.lock() {
        step.clone_into(&mut current);
    }
}

/// Passes a panic to `report` and ends the process. The panic's message is left out, because it may hold a secret.
pub fn install(report: fn(Fault)) {
    std::panic::set_hook(Box::new(move |panic| {
        let step = STEP.try_lock().map(|step| step.clone()).unwrap_or_default();
        let place = panic
            .location()
            .map_or(String::new(), |it| format!(" (at {}:{})", it.file(), it.line()));
        report(Fault::Transient(format!(
            "fetcher: internal error while {step}{place}; check the source for unusual characters, and report this line"
        )));
        std::process::exit(1);
    }));
}
