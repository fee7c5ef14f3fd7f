//! The table: one row for each figure of the manual, and whether it holds.

use super::harness::Answer;

#[derive(Default)]
pub(crate) struct Table {
    rows: Vec<[String; 6]>,
    failed: usize,
}

impl Table {
    pub(crate) fn row(&mut self, name: &str, measured: &str, limit: &str, ratio: &str, must: &str, holds: bool) {
        let verdict = if holds { "PASS" } else { "FAIL" };
        self.failed += usize::from(!holds);
        eprintln!("{verdict} {name}: {measured} (limit {limit}, ratio {ratio}, must {must})");
        self.rows.push([name, measured, limit, ratio, must, verdict].map(str::to_owned));
    }

    /// Two medians in milliseconds, and how many times the second the first may be.
    pub(crate) fn ratio(&mut self, name: &str, measured: f64, limit: f64, must: f64) {
        let ratio = measured / limit;
        let (measured, limit) = (format!("{measured:.2} ms"), format!("{limit:.2} ms"));
        self.row(name, &measured, &limit, &format!("{ratio:.2}x"), &format!("<= {must}x"), ratio <= must);
    }

    pub(crate) fn at_most(&mut self, name: &str, measured: f64, must: f64, unit: &str) {
        let (shown, bound) = (format!("{measured:.0} {unit}"), format!("<= {must:.0} {unit}"));
        self.row(name, &shown, "-", "-", &bound, measured <= must);
    }

    /// A measure that could not be made is a row that fails.
    pub(crate) fn attempt(&mut self, name: &str, measure: impl FnOnce(&mut Table) -> Answer<()>) {
        eprintln!("... {name}");
        if let Err(error) = measure(self) {
            self.row(name, &error, "-", "-", "a figure", false);
        }
    }

    /// Prints it; whether every row holds.
    pub(crate) fn print(mut self) -> bool {
        self.rows.insert(0, ["measure", "measured", "limit", "ratio", "must", ""].map(str::to_owned));
        let width = |column: usize| self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: [usize; 6] = std::array::from_fn(width);
        for row in &self.rows {
            let cells: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            println!("{}", cells.join("  ").trim_end());
        }
        self.failed == 0
    }
}
