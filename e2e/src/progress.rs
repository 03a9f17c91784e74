//! What a user sees while something slow happens: every step is announced when it starts and gets its duration when it
//! ends, so that a wait is never silent and a slow step is seen at once.

use std::io::{IsTerminal, Write};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::Result;

/// Runs `work` as a step called `what`. Steps that run at the same time each print one line when they are done.
pub fn step<T>(what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let started = Instant::now();
    if std::io::stderr().is_terminal() {
        eprint!("  {} {what} …\r", paint(Colour::Dim, "·"));
        let _ = std::io::stderr().flush();
    }
    let result = work();
    let took = duration(started.elapsed());
    match &result {
        Ok(_) => eprintln!("  {} {what:<58} {took:>8}", paint(Colour::Green, "✓")),
        Err(_) => eprintln!("  {} {what:<58} {took:>8}", paint(Colour::Red, "✗")),
    }
    result
}

/// Like [`step`], for what takes minutes: a terminal shows the time running, a log says that it has begun.
pub fn slow_step<T>(what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    if !std::io::stderr().is_terminal() {
        eprintln!("  {} {what} …", paint(Colour::Dim, "·"));
        return step(what, work);
    }
    let (done, ended) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let started = Instant::now();
            while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(Duration::from_secs(1)) {
                eprint!("  {} {what:<58} {:>8}\r", paint(Colour::Dim, "·"), duration(started.elapsed()));
                let _ = std::io::stderr().flush();
            }
        });
        let result = step(what, work);
        drop(done);
        result
    })
}

/// A heading above a group of steps.
pub fn heading(text: &str) {
    eprintln!("{}", paint(Colour::Bold, text));
}

/// A remark that belongs to the steps around it.
pub fn note(text: &str) {
    eprintln!("    {text}");
}

/// A duration as people say it: `85ms`, `4.2s`, `3m05s`.
pub fn duration(d: Duration) -> String {
    let seconds = d.as_secs_f64();
    if seconds < 1.0 {
        format!("{}ms", d.as_millis())
    } else if seconds < 60.0 {
        format!("{seconds:.1}s")
    } else {
        format!("{}m{:02}s", d.as_secs() / 60, d.as_secs() % 60)
    }
}

/// The few colours that the harness uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colour {
    /// Success, allowed.
    Green,
    /// Failure, blocked.
    Red,
    /// Something to look at: what changed.
    Yellow,
    /// Headings.
    Bold,
    /// What matters least.
    Dim,
}

/// `text` in a colour, where the output is a terminal (or CLICOLOR_FORCE says so) and NO_COLOR is not set.
pub fn paint(colour: Colour, text: &str) -> String {
    if !colours() {
        return text.to_owned();
    }
    let code = match colour {
        Colour::Green => "32",
        Colour::Red => "31",
        Colour::Yellow => "1;33",
        Colour::Bold => "1",
        Colour::Dim => "2",
    };
    format!("\x1b[{code}m{text}\x1b[0m")
}

fn colours() -> bool {
    let set = |name: &str| std::env::var_os(name).is_some_and(|v| !v.is_empty() && v != "0");
    !set("NO_COLOR") && (set("CLICOLOR_FORCE") || std::io::stderr().is_terminal())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_well() {
        assert_eq!(duration(Duration::from_millis(85)), "85ms");
        assert_eq!(duration(Duration::from_millis(4_210)), "4.2s");
        assert_eq!(duration(Duration::from_secs(185)), "3m05s");
    }
}
