//! The secret that the processes of one user share, and random numbers from the kernel.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use taskloom_proto::handshake::{Nonce, Token};

#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    #[error("no place for the token file: set TASKLOOM_TOKEN, XDG_STATE_HOME or HOME")]
    NoHome,
    #[error("token file {path}: {source}; set TASKLOOM_TOKEN to do without it")]
    File { path: PathBuf, source: io::Error },
    #[error("token file {path} may be read by others; run: chmod 600 {path}")]
    NotPrivate { path: PathBuf },
    #[error("token file {path} is empty; remove it to get a new one")]
    Empty { path: PathBuf },
    #[error("the kernel gives no random numbers: {0}")]
    NoRandomness(String),
}

/// Fresh random bytes for a handshake.
pub fn random_nonce() -> Result<Nonce, TokenError> {
    let mut nonce = [0; 32];
    getrandom::fill(&mut nonce).map_err(|error| TokenError::NoRandomness(error.to_string()))?;
    Ok(nonce)
}

/// A random number that names one run of a process.
pub fn random_u64() -> Result<u64, TokenError> {
    let nonce = random_nonce()?;
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&nonce[..8]);
    Ok(u64::from_le_bytes(bytes))
}

/// `TASKLOOM_TOKEN`, or the user's token file, which the first process makes.
pub fn load_token() -> Result<Token, TokenError> {
    match std::env::var("TASKLOOM_TOKEN") {
        Ok(token) if !token.is_empty() => Ok(Token::new(token)),
        _ => load_file(&token_path()?),
    }
}

/// `$XDG_STATE_HOME/taskloom/token` or `~/.local/state/taskloom/token`.
fn token_path() -> Result<PathBuf, TokenError> {
    let absolute =
        |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = absolute("XDG_STATE_HOME");
    let state = state.or_else(|| absolute("HOME").map(|home| home.join(".local/state")));
    Ok(state.ok_or(TokenError::NoHome)?.join("taskloom").join("token"))
}

fn load_file(path: &Path) -> Result<Token, TokenError> {
    let failed = |source| TokenError::File { path: path.into(), source };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => create(path)?,
        Err(error) => return Err(failed(error)),
        Ok(_) => {}
    }
    let meta = fs::metadata(path).map_err(failed)?;
    if meta.mode() & 0o077 != 0 {
        return Err(TokenError::NotPrivate { path: path.into() });
    }
    let text = fs::read_to_string(path).map_err(failed)?;
    match text.trim() {
        "" => Err(TokenError::Empty { path: path.into() }),
        token => Ok(Token::new(token)),
    }
}

/// Makes the file whole or not at all: of several processes that start at once, one wins and
/// the others read its token.
fn create(path: &Path) -> Result<(), TokenError> {
    let hex: String = random_nonce()?.iter().map(|byte| format!("{byte:02x}")).collect();
    let write = || -> io::Result<()> {
        let directory = path.parent().unwrap_or(Path::new("/"));
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let draft = path.with_extension(format!("{}-{}", std::process::id(), &hex[..8]));
        let mut file = fs::OpenOptions::new();
        let mut file = file.write(true).create_new(true).mode(0o600).open(&draft)?;
        let written = file.write_all(hex.as_bytes()).and_then(|()| fs::hard_link(&draft, path));
        fs::remove_file(&draft)?;
        match written {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(()),
        }
    };
    write().map_err(|source| TokenError::File { path: path.into(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_first_process_makes_the_token_and_the_others_share_it() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("state/taskloom/token");
        let tokens: Vec<Token> = std::thread::scope(|scope| {
            let load = || load_file(&path).unwrap();
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(load)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(tokens.iter().all(|token| *token == tokens[0]));
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn a_token_that_others_can_read_is_refused() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("token");
        fs::write(&path, "secret").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(load_file(&path), Err(TokenError::NotPrivate { .. })));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(load_file(&path).unwrap(), Token::new("secret"));
    }
}
