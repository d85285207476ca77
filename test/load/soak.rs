//! To be written.
pub fn run(_program: &str, _minutes: f64) -> Vec<String> {
    vec!["soak: to be written".to_owned()]
}
