//! The command line `xmc`.
fn main() {}
