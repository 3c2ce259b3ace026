//! `text2llm tui`: the project's runs, and one run live: curves, figures, samples, log; keys to stop, resume,
//! generate, switch.
//!
//! What is shown is read from the runs' files, never from the processes, so that a dead run is shown like a
//! live one. Reading order: `watched` (what is read), `app` (what is shown of it and what keys do), `screen`
//! and `curves` (how it looks).

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

/// Between two looks at the disk, and between two at the list of all runs.
const REFRESH: Duration = Duration::from_millis(500);

/// Runs until the user leaves.
pub fn run(project: &Project) -> Outcome {
    if !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
        return Err(Failure::message("tui: this is no terminal; `text2llm status --watch` works anywhere"));
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
