//! The tokens of operators, from the file that the configuration names.

use std::fs::File;
use std::io::Read;

use crate::config::Config;
use crate::http::operators::{OperatorToken, read_tokens};
use crate::sandbox;

/// Reads them; none without a file.
///
/// # Errors
/// The file cannot be read, or is wrong: one sentence, without a token.
pub(super) fn read(config: &Config) -> Result<Vec<OperatorToken>, String> {
    let Some(path) = &config.admin_tokens else { return Ok(Vec::new()) };
    let wrong =
        |error: &dyn std::fmt::Display| format!("admin.tokens: {}: {error}", path.display());
    let file = File::open(path).map_err(|error| wrong(&sandbox::why(path, &error)))?;
    let mut text = String::new();
    file.take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(|error| wrong(&error))?;
    read_tokens(&text).map_err(|error| wrong(&error))
}

/// A thousand tokens take a tenth of it.
const FILE_BYTES_MAX: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_that_is_missing_or_wrong_is_named_and_no_token_is_repeated() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens");
        let config = Config { admin_tokens: Some(path.clone()), ..Config::default() };
        assert_eq!(read(&Config::default()), Ok(Vec::new()));
        assert!(read(&config).unwrap_err().contains("tokens: No such file"));
        std::fs::write(&path, "desk boss hda_0123456789abcdef\n").unwrap();
        let error = read(&config).unwrap_err();
        assert!(error.ends_with("line 1: a role is read or control"), "{error}");
        std::fs::write(&path, "desk control hda_0123456789abcdef\n").unwrap();
        assert_eq!(read(&config).unwrap().len(), 1);
    }
}
