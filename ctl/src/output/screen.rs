//! A list that is watched: the table in its place on a terminal, one result after the other elsewhere.

use std::io::{self, IsTerminal as _};

use super::{Format, Output, Text, session::Overlong};
use crate::failure::Failure;

/// What can be watched.
pub(crate) trait Listing {
    /// The table for a terminal of `width` columns.
    fn table(&self, output: &Output, width: Option<usize>, overlong: Overlong) -> Text;

    /// Prints it in the format for programs that was chosen.
    ///
    /// # Errors
    /// When standard output can't be written.
    fn print(&self, output: &Output) -> Result<(), Failure>;

    /// Prints it as one line of JSON, for a reader that gets many.
    ///
    /// # Errors
    /// When standard output can't be written.
    fn print_line(&self, output: &Output) -> Result<(), Failure>;
}

/// Where a watched list is shown.
#[derive(Debug)]
pub(crate) struct Screen {
    in_place: bool,
    lines: usize,
    shown: usize,
}

// === impl Output ===

impl Output {
    /// A screen on standard output.
    pub(crate) fn screen(&self) -> Screen {
        Screen {
            in_place: self.format == Format::Table && io::stdout().is_terminal(),
            lines: 0,
            shown: 0,
        }
    }
}

// === impl Screen ===

impl Screen {
    /// Whether what is shown grows old without a change.
    pub(crate) fn shows_ages(&self) -> bool {
        self.in_place
    }

    /// Shows what there is at this moment.
    ///
    /// # Errors
    /// When standard output can't be written.
    pub(crate) fn show(
        &mut self,
        output: &Output,
        list: &(impl Listing + ?Sized),
    ) -> Result<(), Failure> {
        if self.in_place {
            let size = rustix::termios::tcgetwinsize(io::stdout()).ok();
            let columns = size
                .map(|size| usize::from(size.ws_col))
                .filter(|&width| width > 0);
            let rows = size
                .map(|size| usize::from(size.ws_row))
                .filter(|&rows| rows > 1);
            let table = list.table(output, columns, Overlong::Cut);
            // What is taller than the terminal could not be painted over.
            let table = table.first_lines(rows.map_or(usize::MAX, |rows| rows - 1));
            let mut frame = Text::new();
            if self.lines > 0 {
                frame.push_control(&format!("\x1b[{}A", self.lines));
            }
            frame.push_control("\r\x1b[J");
            frame.append(&table);
            self.lines = table.as_str().lines().count();
            return output.text(&frame);
        }
        let first = self.shown == 0;
        self.shown += 1;
        match output.format {
            Format::Json => list.print_line(output),
            Format::Yaml => {
                output.text(&Text::lines("---\n"))?;
                list.print(output)
            }
            Format::Table | Format::Csv => {
                if !first {
                    output.text(&Text::lines("\n"))?;
                }
                match output.format {
                    Format::Table => output.text(&list.table(output, None, Overlong::Wrap)),
                    _ => list.print(output),
                }
            }
        }
    }
}
