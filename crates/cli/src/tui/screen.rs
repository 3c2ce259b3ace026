//! Draws the list of runs and the view of one run.

use std::borrow::Cow;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::symbols::Marker;
use ratatui::text::{Line, Span};
use ratatui::widgets::{
    Axis, Block, Chart, Dataset, Gauge, GraphType, Paragraph, Row, Table, TableState, Wrap,
};
use runs::run::RunStatus;

use super::app::{App, View};
use super::curves;
use super::watched::Watched;
use crate::output::{bytes, count, plain_line, short_duration};

/// Draws the current screen.
pub fn draw(frame: &mut Frame<'_>, app: &App) {
    draw_parts(frame, app);
    // Control characters may come with any part: names, samples, messages, a pasted prompt.
    for cell in &mut frame.buffer_mut().content {
        if let Cow::Owned(plain) = plain_line(cell.symbol()) {
            cell.set_symbol(&plain);
        }
    }
}

fn draw_parts(frame: &mut Frame<'_>, app: &App) {
    let area = frame.area();
    if area.width < 30 || area.height < 8 {
        frame.render_widget(
            Paragraph::new("text2llm: the terminal is too small").wrap(Wrap { trim: true }),
            area,
        );
        return;
    }
    let [top, middle, bottom] =
        Layout::vertical([Constraint::Length(1), Constraint::Min(3), Constraint::Length(2)]).areas(area);
    let title = format!(" text2llm · {}", app.project.root().display());
    frame.render_widget(Line::styled(title, Style::new().add_modifier(Modifier::BOLD)), top);
    let keys = match (app.view, &app.watched) {
        (View::Run, Some(watched)) => {
            run(frame, middle, app, watched);
            "q back  n/p next/previous run  x/y log axes  +/- smoothing  s stop  r resume  g generate"
        }
        _ => {
            list(frame, middle, app);
            "↑↓ select  Enter open  s stop  r resume  g generate  q quit"
        }
    };
    let said = match &app.prompt {
        Some(prompt) => {
            Line::from(vec![Span::styled("prompt: ", Color::Yellow), Span::raw(format!("{prompt}▏"))])
        }
        None => Line::raw(app.message.clone()),
    };
    let help = Line::styled(keys, Style::new().add_modifier(Modifier::DIM));
    frame.render_widget(Paragraph::new(vec![said, help]), bottom);
}

fn list(frame: &mut Frame<'_>, area: Rect, app: &App) {
    let block = Block::bordered().title(format!(" {} runs ", app.runs.len()));
    if app.runs.is_empty() {
        let text = "No runs yet. Start one with `text2llm run --detach`; it appears here.";
        frame.render_widget(Paragraph::new(text).wrap(Wrap { trim: true }).block(block), area);
        return;
    }
    let rows = app.runs.iter().map(|run| match &run.state {
        None => Row::new([run.run_id.clone(), "unreadable".to_owned()]),
        Some(state) => {
            let number =
                |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |value| format!("{value:.4}"));
            let share = 100.0 * state.step as f64 / state.total_steps.max(1) as f64;
            let eta = if state.eta_s > 0.0 { short_duration(state.eta_s) } else { "–".to_owned() };
            Row::new([
                run.run_id.clone(),
                state.status_in_words(),
                format!("{}/{}", count(state.step), count(state.total_steps)),
                format!("{share:.0} %"),
                number(state.train_loss),
                number(state.validation_loss),
                eta,
            ])
            .style(Style::new().fg(color(state.status)))
        }
    });
    let widths = [
        Constraint::Min(16),
        Constraint::Length(11),
        Constraint::Length(13),
        Constraint::Length(6),
        Constraint::Length(8),
        Constraint::Length(10),
        Constraint::Length(8),
    ];
    let header = Row::new(["run", "status", "step", "done", "loss", "validation", "left"])
        .style(Style::new().add_modifier(Modifier::BOLD));
    let table = Table::new(rows, widths)
        .header(header)
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED))
        .block(block);
    let mut state = TableState::default().with_selected(Some(app.selected));
    frame.render_stateful_widget(table, area, &mut state);
}

fn color(status: RunStatus) -> Color {
    match status {
        RunStatus::Running => Color::Green,
        RunStatus::Failed => Color::Red,
        RunStatus::Interrupted => Color::Yellow,
        RunStatus::Stopped => Color::Cyan,
        RunStatus::Completed | RunStatus::Queued => Color::Reset,
    }
}

fn run(frame: &mut Frame<'_>, area: Rect, app: &App, watched: &Watched) {
    let [head, gauge, chart, below] = Layout::vertical([
        Constraint::Length(3),
        Constraint::Length(1),
        Constraint::Min(5),
        Constraint::Percentage(35),
    ])
    .areas(area);
    frame.render_widget(Paragraph::new(figures(watched)).wrap(Wrap { trim: true }), head);
    if let Some(state) = &watched.state {
        let share = (state.step as f64 / state.total_steps.max(1) as f64).clamp(0.0, 1.0);
        let label = format!("step {} of {} · epoch {:.2}", state.step, state.total_steps, state.epoch);
        frame.render_widget(Gauge::default().ratio(share).label(label).gauge_style(Color::Green), gauge);
    }
    draw_chart(frame, chart, app, watched);
    let [samples, log] =
        Layout::horizontal([Constraint::Percentage(40), Constraint::Percentage(60)]).areas(below);
    let rows = samples.height.saturating_sub(2) as usize;
    let newest: Vec<Line<'_>> = watched.samples().rev().take(rows.max(1)).map(Line::raw).collect();
    frame.render_widget(
        Paragraph::new(newest).wrap(Wrap { trim: true }).block(Block::bordered().title(" samples ")),
        samples,
    );
    let from = watched.log.len().saturating_sub(log.height.saturating_sub(2) as usize);
    // Only the time of day is shown; the date is rarely of interest.
    let lines: Vec<Line<'_>> =
        watched.log[from..].iter().map(|line| Line::raw(line.get(11..).unwrap_or(line))).collect();
    frame.render_widget(Paragraph::new(lines).block(Block::bordered().title(" log ")), log);
}

fn figures(watched: &Watched) -> Vec<Line<'_>> {
    let Some(state) = &watched.state else {
        return vec![Line::styled(
            format!("{}: cannot read its state; the run was deleted or is incomplete", watched.run_id),
            Color::Red,
        )];
    };
    let status = if watched.process.is_some() || state.status != RunStatus::Running {
        state.status
    } else {
        RunStatus::Interrupted
    };
    let mut first = vec![
        Span::styled(watched.run_id.clone(), Style::new().add_modifier(Modifier::BOLD)),
        Span::raw("  "),
        match &state.paused {
            Some(_) => Span::styled("paused", Color::Yellow),
            None => Span::styled(status.to_string(), color(status)),
        },
    ];
    if let Some(process) = watched.process {
        first.push(Span::raw(format!("  process {process}")));
        if let Some(why) = &state.paused {
            first.push(Span::raw(format!("  {}", crate::output::plain_line(why))));
        }
    } else if !state.message.is_empty() {
        first.push(Span::raw(format!("  {}", crate::output::plain_line(&state.message))));
    }
    let number = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |value| format!("{value:.4}"));
    let mut second = format!(
        "loss {}  validation {} (best {})",
        number(state.train_loss),
        number(state.validation_loss),
        number(state.best_validation_loss)
    );
    if let Some(rate) = state.learning_rate {
        second.push_str(&format!("  learning rate {rate:.2e}"));
    }
    let mut third = format!("{} tokens/s", count(state.tokens_per_s as u64));
    if let Some(step) = &watched.metrics.last_step {
        third.push_str(&format!(
            "  memory {}  gradient norm {:.3}",
            bytes(step.rss_bytes),
            step.gradient_norm
        ));
    }
    if watched.process.is_some() && state.eta_s > 0.0 {
        third.push_str(&format!("  {} left", short_duration(state.eta_s)));
    }
    if let Some(step) = state.checkpoint_step {
        third.push_str(&format!("  checkpoint {step}"));
    }
    vec![Line::from(first), Line::raw(second), Line::raw(third)]
}

fn draw_chart(frame: &mut Frame<'_>, area: Rect, app: &App, watched: &Watched) {
    let scale = |log: bool| if log { "log" } else { "linear" };
    let title = format!(
        " loss: green smoothed {:.0} %, yellow validation; x {}, y {} ",
        100.0 * app.smoothing,
        scale(app.log_x),
        scale(app.log_y)
    );
    let block = Block::bordered().title(title);
    let losses: Vec<_> = watched.metrics.steps.points().map(|point| (point[0], point[1])).collect();
    let validations: Vec<_> =
        watched.metrics.validations.points().map(|point| (point[0], point[1])).collect();
    let Some(drawn) = curves::layout(&losses, &validations, app.log_x, app.log_y, app.smoothing) else {
        frame.render_widget(Paragraph::new("no steps yet").block(block), area);
        return;
    };
    let curve = |points, color| {
        Dataset::default()
            .data(points)
            .marker(Marker::Braille)
            .graph_type(GraphType::Line)
            .style(Style::new().fg(color))
    };
    let datasets = vec![
        curve(&drawn.raw, Color::DarkGray),
        curve(&drawn.smooth, Color::Green),
        curve(&drawn.validation, Color::Yellow),
    ];
    let chart = Chart::new(datasets)
        .block(block)
        .x_axis(Axis::default().bounds(drawn.x).labels(drawn.x_labels.clone()))
        .y_axis(Axis::default().bounds(drawn.y).labels(drawn.y_labels.clone()));
    frame.render_widget(chart, area);
}
