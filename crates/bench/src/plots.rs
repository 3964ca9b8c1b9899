//! Draws the results.

use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;

use crate::report::{Report, Row};

const SIZE: (u32, u32) = (860, 460);
/// Distinguishable also with a colour vision deficiency.
const COLOURS: [RGBColor; 11] = [
    RGBColor(0, 90, 181),
    RGBColor(86, 180, 233),
    RGBColor(0, 158, 115),
    RGBColor(30, 30, 30),
    RGBColor(204, 121, 167),
    RGBColor(213, 94, 0),
    RGBColor(230, 159, 0),
    RGBColor(150, 150, 150),
    RGBColor(180, 20, 20),
    RGBColor(120, 80, 160),
    RGBColor(110, 70, 30),
];

type Canvas<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Draw = fn(&Report, &Canvas<'_>) -> Drawn;
type Drawn = Result<(), Box<dyn std::error::Error>>;

/// Writes `cost.svg`, `latency.svg` and `teardown.svg` into a folder, which is created if needed.
/// The first two need the workloads of a full run.
///
/// # Errors
/// What can't be written.
pub fn plot(report: &Report, folder: &Path) -> Result<(), String> {
    let failed = |what: &dyn std::fmt::Display| format!("{}: {what}", folder.display());
    std::fs::create_dir_all(folder).map_err(|error| failed(&error))?;
    let pictures: [(&str, Draw); 3] = [
        ("cost.svg", cost),
        ("latency.svg", latency),
        ("teardown.svg", teardown),
    ];
    for (name, draw) in pictures {
        if name != "teardown.svg" && report.full.is_none() {
            continue;
        }
        let file = folder.join(name);
        let canvas = SVGBackend::new(&file, SIZE).into_drawing_area();
        canvas
            .fill(&WHITE)
            .map_err(|error| failed(&error))
            .and_then(|()| draw(report, &canvas).map_err(|error| failed(&error)))?;
        canvas.present().map_err(|error| failed(&error))?;
    }
    Ok(())
}

/// CPU time of a check by number of paths.
fn cost(report: &Report, canvas: &Canvas<'_>) -> Drawn {
    let points = report.full.iter().flat_map(|full| &full.cost);
    let points: Vec<_> = points
        .filter_map(|point| Some((point.name, point.paths as f64, point.cpu_ns_per_check?)))
        .collect();
    let most = points.iter().map(|point| point.1).fold(2.0, f64::max);
    let (low, high) = bounds(points.iter().map(|point| point.2));
    // The names are outside, because the lines leave no corner free.
    let (canvas, names) = canvas.split_horizontally(SIZE.0 - 180);
    let mut chart = ChartBuilder::on(&canvas)
        .caption(
            "CPU time of a check, all threads of the process",
            ("sans-serif", 18),
        )
        .margin(12)
        .margin_right(28)
        .x_label_area_size(40)
        .y_label_area_size(64)
        .build_cartesian_2d((1.0..most).log_scale(), (low..high).log_scale())?;
    chart
        .configure_mesh()
        .x_desc("paths")
        .y_desc("nanoseconds")
        .x_label_formatter(&|paths| format!("{paths:.0}"))
        .y_label_formatter(&|ns| format!("{ns:.0}"))
        .draw()?;
    let rows = report.contenders.iter().zip(COLOURS.iter().cycle());
    for ((row, colour), y) in rows.zip((64..).step_by(20)) {
        let of_row = points.iter().filter(|point| point.0 == row.name);
        let line: Vec<(f64, f64)> = of_row.map(|point| (point.1, point.2)).collect();
        let marks = line.iter().map(|at| Circle::new(*at, 3, colour.filled()));
        chart.draw_series(marks)?;
        let line = LineSeries::new(line.iter().copied(), colour.stroke_width(2));
        chart.draw_series(line)?;
        names.draw(&PathElement::new([(0, y), (16, y)], colour.stroke_width(2)))?;
        let name = Text::new(row.name, (24, y - 5), ("sans-serif", 12));
        names.draw(&name)?;
    }
    Ok(())
}

/// A group of bars for each contender. `None` means that the measured step did not end: the bar is
/// striped.
struct Bars {
    title: &'static str,
    unit: &'static str,
    series: Vec<&'static str>,
    groups: Vec<(&'static str, Vec<Option<f64>>)>,
}

fn latency(report: &Report, canvas: &Canvas<'_>) -> Drawn {
    let rows = report.full.iter().flat_map(|full| &full.faults);
    let known = rows.filter(|row| row.healthy_ms_p99.is_some());
    let group = |row: &crate::FaultRow| {
        let figures = vec![row.healthy_ms_p99, row.hanging_ms_p99, row.saturated_ms_p99];
        (row.name, figures)
    };
    let bars = Bars {
        title: "Latency of the healthy paths' checks (p99); striped: the sweep did not end",
        unit: "milliseconds",
        series: vec![
            "without faults",
            "10 % of the paths hang",
            "and 5 % are saturated",
        ],
        groups: known.map(group).collect(),
    };
    bars.draw(canvas)
}

fn teardown(report: &Report, canvas: &Canvas<'_>) -> Drawn {
    let torn = |row: &&Row| row.teardown_ms.is_some();
    let group = |row: &Row| (row.name, vec![row.teardown_ms, row.teardown_stuck_ms]);
    let bars = Bars {
        title: "Time to release everything to the kernel; striped: it did not end",
        unit: "milliseconds",
        series: vec!["no reads in flight", "some reads stuck at a silent device"],
        groups: report.contenders.iter().filter(torn).map(group).collect(),
    };
    bars.draw(canvas)
}

impl Bars {
    fn draw(&self, canvas: &Canvas<'_>) -> Drawn {
        let figures = self
            .groups
            .iter()
            .flat_map(|group| group.1.iter().flatten());
        // A bar that ends at the axis itself would be invisible.
        let (low, high) = bounds(figures.flat_map(|figure| [figure * 0.8, *figure]));
        let names: Vec<&str> = self.groups.iter().map(|group| group.0).collect();
        let count = names.len() as f64;
        let mut chart = ChartBuilder::on(canvas)
            .caption(self.title, ("sans-serif", 16))
            .margin(12)
            .x_label_area_size(40)
            .y_label_area_size(64)
            .build_cartesian_2d(0.0..count, (low..high * 3.0).log_scale())?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .disable_x_axis()
            .y_desc(self.unit)
            .y_label_formatter(&|figure| short(*figure))
            .draw()?;
        let width = 0.8 / self.series.len() as f64;
        for (nth, name) in self.series.iter().enumerate() {
            let colour = COLOURS[[2, 0, 5][nth % 3]];
            let left = |group: usize| group as f64 + 0.1 + nth as f64 * width;
            let all = || self.groups.iter().enumerate();
            let known = all().filter_map(|(group, (_, figures))| {
                let corners = [(left(group), low), (left(group) + width, figures[nth]?)];
                Some(Rectangle::new(corners, colour.filled()))
            });
            chart
                .draw_series(known)?
                .label(*name)
                .legend(move |(x, y)| {
                    Rectangle::new([(x, y - 5), (x + 12, y + 5)], colour.filled())
                });
            let endless = all().filter(|(_, (_, figures))| figures[nth].is_none());
            // Stripes up to the top.
            let stripes = endless.flat_map(|(group, _)| {
                (0..40).map(move |step| {
                    let at = |step: f64| low * (high * 3.0 / low).powf(step / 40.0);
                    let step = f64::from(step);
                    let corners = [
                        (left(group), at(step)),
                        (left(group) + width, at(step + 0.5)),
                    ];
                    Rectangle::new(corners, colour.mix(0.6).filled())
                })
            });
            chart.draw_series(stripes)?;
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .background_style(WHITE.mix(0.9))
            .border_style(BLACK.mix(0.3))
            .draw()?;
        let plane = chart.plotting_area().get_pixel_range();
        let each = f64::from(plane.0.end - plane.0.start) / count;
        for (group, name) in names.iter().enumerate() {
            let middle = f64::from(plane.0.start) + each * (group as f64 + 0.5);
            // Every other name is lower, so that adjacent names don't overlap.
            let lower = plane.1.end + 6 + 16 * (group as i32 % 2);
            let style = TextStyle::from(("sans-serif", 12).into_font()).pos(
                plotters::style::text_anchor::Pos::new(
                    plotters::style::text_anchor::HPos::Center,
                    plotters::style::text_anchor::VPos::Top,
                ),
            );
            canvas.draw(&Text::new(*name, (middle as i32, lower), style))?;
        }
        Ok(())
    }
}

/// Powers of ten around the values.
fn bounds(figures: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = figures
        .filter(|figure| figure.is_finite() && *figure > 0.0)
        .fold((f64::MAX, f64::MIN), |(low, high), figure| {
            (low.min(figure), high.max(figure))
        });
    if low > high {
        return (1.0, 10.0);
    }
    (
        10_f64.powf(low.log10().floor()),
        10_f64.powf(high.log10().ceil()),
    )
}

fn short(figure: f64) -> String {
    if figure >= 1.0 {
        format!("{figure:.0}")
    } else {
        format!("{figure}")
    }
}
