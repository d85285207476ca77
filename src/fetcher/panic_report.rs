//! Reports a panic, for example in a dependency, as an error of the fetcher.

use std::sync::Mutex;

use crate::common::{Fault, log};

/// The current step of the fetcher.
static STEP: Mutex<String> = Mutex::new(String::new());

pub fn set_step(step: &str) {
    if let Ok(mut current) = STEP.lock() {
        step.clone_into(&mut current);
    }
}

/// Installs a panic hook that passes an error to `report` and ends the process. The error omits the panic's message, because that
/// may hold a secret.
pub fn install(report: fn(Fault)) {
    std::panic::set_hook(Box::new(move |panic| {
        let step = STEP.try_lock().map(|step| step.clone()).unwrap_or_default();
        let place = log::place_of(panic);
        report(Fault::Transient(format!(
            "fetcher: internal error while {step}{place}; check the source for unusual characters, and report this line"
        )));
        std::process::exit(1);
    }));
}
