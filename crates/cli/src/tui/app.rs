//! The state of the TUI and its keys. It knows nothing of terminals; actions run as child processes of this
//! program.

use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};

use pipeline::project::Project;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use runs::run::RunSummary;
use store::fs::RealFs;

use super::watched::Watched;
use crate::output::plain_line;

/// While one run is shown, the list of all runs is refreshed this many times less often.
const LIST_EVERY: u64 = 10;

/// The screen that is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// The list of all runs.
    List,
    /// One run.
    Run,
}

/// The state of the TUI.
pub struct App {
    pub project: Project,
    pub view: View,
    pub runs: Vec<RunSummary>,
    pub selected: usize,
    pub watched: Option<Watched>,
    pub log_x: bool,
    pub log_y: bool,
    /// Smoothing factor of the loss curve: the weight of earlier values.
    pub smoothing: f64,
    /// Message of the last action.
    pub message: String,
    /// A prompt being typed.
    pub prompt: Option<String>,
    refreshes: u64,
    answers: (Sender<String>, Receiver<String>),
}

impl App {
    /// An app before its first refresh.
    pub fn new(project: Project) -> App {
        App {
            project,
            view: View::List,
            runs: Vec::new(),
            selected: 0,
            watched: None,
            log_x: false,
            log_y: true,
            smoothing: 0.9,
            message: String::new(),
            prompt: None,
            refreshes: 0,
            answers: channel(),
        }
    }

    /// Reads the runs from disk.
    pub fn refresh(&mut self) {
        if self.view == View::List || self.refreshes.is_multiple_of(LIST_EVERY) {
            self.read_list();
        }
        self.refreshes += 1;
        if self.view == View::Run
            && let Some(watched) = &mut self.watched
        {
            watched.refresh(&self.project.runs());
        }
        while let Ok(answer) = self.answers.1.try_recv() {
            self.message = answer;
        }
    }

    fn read_list(&mut self) {
        let was = self.runs.get(self.selected).map(|run| run.run_id.clone());
        let first = self.runs.is_empty();
        // Newest first. A folder that cannot be read shows no runs.
        self.runs = runs::run::list(&RealFs, &self.project.runs()).unwrap_or_default();
        self.runs.reverse();
        let same = self.runs.iter().position(|run| Some(&run.run_id) == was.as_ref());
        self.selected =
            if first { 0 } else { same.unwrap_or(self.selected.min(self.runs.len().saturating_sub(1))) };
    }

    /// Handles a key; returns false to quit.
    pub fn key(&mut self, key: KeyEvent) -> bool {
        if key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL) {
            return false;
        }
        if let Some(prompt) = &mut self.prompt {
            match key.code {
                KeyCode::Char(c) => prompt.push(c),
                KeyCode::Backspace => drop(prompt.pop()),
                KeyCode::Enter => self.generate(),
                KeyCode::Esc => self.prompt = None,
                _ => {}
            }
            return true;
        }
        match (self.view, key.code) {
            (View::List, KeyCode::Char('q') | KeyCode::Esc) => return false,
            (View::Run, KeyCode::Char('q') | KeyCode::Esc | KeyCode::Left) => {
                self.view = View::List;
                self.read_list();
            }
            (View::List, KeyCode::Up | KeyCode::Char('k')) => self.selected = self.selected.saturating_sub(1),
            (View::List, KeyCode::Down | KeyCode::Char('j')) => self.select(self.selected + 1),
            (View::List, KeyCode::Enter | KeyCode::Right) => self.open(),
            (View::Run, KeyCode::Char('n') | KeyCode::Tab) => {
                self.select(self.selected + 1);
                self.open();
            }
            (View::Run, KeyCode::Char('p') | KeyCode::BackTab) => {
                self.select(self.selected.saturating_sub(1));
                self.open();
            }
            (View::Run, KeyCode::Char('x')) => self.log_x = !self.log_x,
            (View::Run, KeyCode::Char('y')) => self.log_y = !self.log_y,
            (View::Run, KeyCode::Char('+')) => self.smoothing = (self.smoothing + 0.1).min(0.99),
            (View::Run, KeyCode::Char('-')) => self.smoothing = (self.smoothing - 0.1).max(0.0),
            (_, KeyCode::Char('s')) => {
                self.act(|id| vec!["stop".to_owned(), id], "stopping after saving a checkpoint")
            }
            (_, KeyCode::Char('r')) => {
                self.act(
                    |id| vec!["resume".to_owned(), id, "--detach".to_owned()],
                    "resuming in the background",
                );
            }
            (_, KeyCode::Char('g')) if self.run_id().is_some() => self.prompt = Some(String::new()),
            _ => {}
        }
        true
    }

    fn select(&mut self, index: usize) {
        self.selected = index.min(self.runs.len().saturating_sub(1));
    }

    fn open(&mut self) {
        let Some(run) = self.runs.get(self.selected) else { return };
        if self.watched.as_ref().is_none_or(|watched| watched.run_id != run.run_id) {
            self.watched = Some(Watched::new(&run.run_id));
        }
        self.view = View::Run;
        if let Some(watched) = &mut self.watched {
            watched.refresh(&self.project.runs());
        }
    }

    fn run_id(&self) -> Option<String> {
        match (self.view, &self.watched) {
            (View::Run, Some(watched)) => Some(watched.run_id.clone()),
            _ => self.runs.get(self.selected).map(|run| run.run_id.clone()),
        }
    }

    fn generate(&mut self) {
        let prompt = self.prompt.take().unwrap_or_default();
        let arguments = |id| {
            let words = ["generate", "--max-new-tokens", "80", "--checkpoint", "latest", "--run"];
            let mut arguments: Vec<String> = words.map(str::to_owned).to_vec();
            arguments.extend([id, format!("--prompt={prompt}")]);
            arguments
        };
        self.act(arguments, "generating from the most recent checkpoint");
    }

    /// Runs a command of this program as a child process; its last line becomes the message.
    fn act(&mut self, arguments: impl FnOnce(String) -> Vec<String>, meanwhile: &str) {
        let Some(id) = self.run_id() else { return };
        meanwhile.clone_into(&mut self.message);
        let arguments = arguments(id);
        let (root, answers) = (self.project.root().to_owned(), self.answers.0.clone());
        let started = std::thread::Builder::new().spawn(move || {
            let ran = std::env::current_exe().and_then(|program| {
                Command::new(program)
                    .args(&arguments)
                    .args(["--project".as_ref(), root.as_os_str()])
                    .env("NO_COLOR", "1")
                    .env_remove("TEXT2LLM_JSON")
                    .env_remove("TEXT2LLM_OUTPUT")
                    .stdin(Stdio::null())
                    .output()
            });
            let answer = match ran {
                Err(error) => error.to_string(),
                Ok(output) if output.status.success() && !output.stdout.is_empty() => {
                    String::from_utf8_lossy(&output.stdout).into_owned()
                }
                Ok(output) => {
                    let words = String::from_utf8_lossy(&output.stderr).into_owned();
                    let told =
                        words.lines().rev().find(|line| line.contains("error") || line.contains("trains"));
                    told.or(words.lines().last()).unwrap_or_default().to_owned()
                }
            };
            // The TUI may have been closed by now.
            let _ = answers.send(plain_line(answer.trim()).into_owned());
        });
        if let Err(error) = started {
            self.message = format!("cannot start a thread: {error}: {}", pipeline::remedy::NO_THREAD);
        }
    }
}
