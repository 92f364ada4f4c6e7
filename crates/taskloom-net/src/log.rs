//! Reports for the operator on standard error. Their text may come from hostile peers: control
//! characters are escaped, and a flood is cut off.

use parking_lot::Mutex;
use std::fmt::Write as _;
use std::io::Write as _;
use std::time::{Duration, Instant};

const WINDOW: Duration = Duration::from_secs(10);
const LINES_PER_WINDOW: u32 = 50;
const MAX_LINE_BYTES: usize = 2000;

struct Window {
    since: Option<Instant>,
    lines: u32,
}

static WINDOW_STATE: Mutex<Window> = Mutex::new(Window { since: None, lines: 0 });

fn admitted() -> bool {
    let mut window = WINDOW_STATE.lock();
    if window.since.is_none_or(|since| since.elapsed() > WINDOW) {
        *window = Window { since: Some(Instant::now()), lines: 0 };
    }
    window.lines += 1;
    window.lines <= LINES_PER_WINDOW
}

/// The message on one line, without control characters, cut to a bound.
fn one_line(message: &str) -> String {
    let mut line = String::with_capacity(message.len().min(MAX_LINE_BYTES) + 16);
    for character in message.chars() {
        if line.len() >= MAX_LINE_BYTES {
            line.push('…');
            break;
        }
        if character.is_control() {
            let _ = write!(line, "{}", character.escape_default());
        } else {
            line.push(character);
        }
    }
    line
}

/// Writes one line to standard error.
pub fn report(message: &str) {
    if admitted() {
        let line = format!("taskloom: {}\n", one_line(message));
        // Nobody can be told that standard error is gone.
        let _ = std::io::stderr().write_all(line.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_cannot_forge_lines_or_move_the_cursor() {
        assert_eq!(one_line("a\nb\x1b[2J"), "a\\nb\\u{1b}[2J");
        assert!(one_line(&"x".repeat(10_000)).len() < MAX_LINE_BYTES + 8);
    }
}
