//! Rules of the house, held against the text of the repository: nothing is built or started.
//!
//! ```text
//! layers     which room may use which, and which crate has which address
//! tidy       length, headers, names and unsafe code of each file
//! documents  what the documents name is there
//! codes      log lines have stable codes, and the README's table has them
//! ```

mod codes;
mod documents;
mod layers;
mod tidy;
