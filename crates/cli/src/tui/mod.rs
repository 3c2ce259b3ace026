//! `text2llm tui`: monitors the project's runs: curves, metrics, samples, log; keys to stop, resume,
//! generate, switch.
//!
//! Everything is read from the runs' files, not from their processes, so that a finished run is shown like a
//! running one. Reading order: `watched` (what is read), `app` (state and keys), `screen` and `curves`
//! (drawing).

mod app;
mod curves;
mod screen;
#[cfg(test)]
mod tests;
mod watched;

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use pipeline::project::Project;
use ratatui::crossterm::event::{self, Event, KeyEventKind};

use crate::failure::{Failure, Outcome};
use app::App;

/// Time between two refreshes.
const REFRESH: Duration = Duration::from_millis(500);

/// Runs until the user quits.
pub fn run(project: &Project) -> Outcome {
    if !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
        return Err(Failure::message("tui needs a terminal; `text2llm status --watch` works without one"));
    }
    let mut app = App::new(project.clone());
    app.refresh();
    let mut terminal = ratatui::try_init()?;
    let outcome = show(&mut terminal, &mut app);
    ratatui::try_restore()?;
    outcome
}

fn show(terminal: &mut ratatui::DefaultTerminal, app: &mut App) -> Outcome {
    let mut refreshed = Instant::now();
    loop {
        terminal.draw(|frame| screen::draw(frame, app))?;
        let left = REFRESH.saturating_sub(refreshed.elapsed());
        if event::poll(left)?
            && let Event::Key(key) = event::read()?
            && key.kind == KeyEventKind::Press
            && !app.key(key)
        {
            return Ok(());
        }
        if refreshed.elapsed() >= REFRESH {
            app.refresh();
            refreshed = Instant::now();
        }
    }
}
