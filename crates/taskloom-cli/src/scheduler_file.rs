//! The file that tells workers and clients where the scheduler is: JSON with `address` and `pid`.

use crate::{CommandError, failed};
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long a worker waits for the file.
const WAIT: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(20);

/// A written file; removed when dropped, unless somebody else has replaced it.
pub(crate) struct SchedulerFile {
    path: PathBuf,
    content: String,
}

impl SchedulerFile {
    /// Writes the file whole or not at all.
    pub(crate) fn write(path: &Path, address: &str) -> Result<Self, CommandError> {
        let pid = std::process::id();
        let address = json_text(address);
        let content = format!("{{\"address\": {address}, \"pid\": {pid}}}\n");
        let failed = |error: io::Error| failed(format!("cannot write {}: {error}", path.display()));
        let mut draft = path.as_os_str().to_owned();
        draft.push(format!(".{pid}.tmp"));
        let mut options = fs::OpenOptions::new();
        let options = options.write(true).create(true).truncate(true).mode(0o644);
        options
            .open(&draft)
            .and_then(|mut file| file.write_all(content.as_bytes()))
            .and_then(|()| fs::rename(&draft, path))
            .inspect_err(|_| drop(fs::remove_file(&draft)))
            .map_err(failed)?;
        Ok(Self { path: path.into(), content })
    }
}

impl Drop for SchedulerFile {
    fn drop(&mut self) {
        if fs::read_to_string(&self.path).is_ok_and(|content| content == self.content) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Waits for the file and returns its address.
pub(crate) fn read_address(path: &Path) -> Result<String, CommandError> {
    let deadline = Instant::now() + WAIT;
    loop {
        match fs::read_to_string(path) {
            Ok(text) => {
                return address_in(&text).ok_or_else(|| {
                    failed(format!("{} has no text entry \"address\"", path.display()))
                });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound && Instant::now() < deadline => {
                sleep(PAUSE);
            }
            Err(error) => {
                return Err(failed(format!("cannot read {}: {error}", path.display())));
            }
        }
    }
}

fn json_text(text: &str) -> String {
    let mut json = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => json.extend(['\\', character]),
            c if c.is_control() => json.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => json.push(c),
        }
    }
    json.push('"');
    json
}

/// The text behind `"address":`. Other entries, as other programs write them, do not matter.
fn address_in(json: &str) -> Option<String> {
    let (_, rest) = json.split_once("\"address\"")?;
    let rest = rest.trim_start().strip_prefix(':')?.trim_start().strip_prefix('"')?;
    let mut address = String::new();
    let mut characters = rest.chars();
    loop {
        match characters.next()? {
            '"' => return Some(address),
            '\\' => address.push(characters.next().filter(|c| "\"\\/".contains(*c))?),
            character => address.push(character),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_read_back_and_the_file_goes_with_its_scheduler() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s.json");
        let file = SchedulerFile::write(&path, "unix:///a\"b").unwrap();
        assert_eq!(read_address(&path).unwrap(), "unix:///a\"b");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        drop(file);
        assert!(!path.exists());
    }

    #[test]
    fn a_file_that_another_scheduler_replaced_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s.json");
        let file = SchedulerFile::write(&path, "tcp://a:1").unwrap();
        fs::write(&path, "{\"address\":\"tcp://b:2\"}").unwrap();
        drop(file);
        assert_eq!(read_address(&path).unwrap(), "tcp://b:2");
    }

    #[test]
    fn files_of_other_programs_are_read_or_refused() {
        let dask = "{\n  \"type\": \"Scheduler\",\n  \"address\" : \"tcp://h:8786\",\n  \"workers\": {}\n}";
        assert_eq!(address_in(dask).as_deref(), Some("tcp://h:8786"));
        for text in ["", "{}", "{\"address\": 5}", "{\"address\": \"x"] {
            assert_eq!(address_in(text), None);
        }
    }
}
