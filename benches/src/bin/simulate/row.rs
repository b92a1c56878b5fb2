//! How figures are printed.

/// Figures, in the order of the table.
const NAMES: [(&str, &str); 19] = [
    ("S1.sick_calls", "calls"),
    ("S1.sick_calls_after_100000", "calls"),
    ("S2.inside.sick_calls", "calls"),
    ("S2.outside.sick_calls", "calls"),
    ("S3.goodput", "of offered"),
    ("S3.load", "of offered"),
    ("S3.recovery_s", "s"),
    ("S3.independent.goodput", "of offered"),
    ("S3.independent.load", "of offered"),
    ("S3.independent.recovery_s", "s"),
    ("S4.success_late", "of offered"),
    ("S4.attempts", "calls"),
    ("S4.recovery_s", "s"),
    ("S5.herd", "calls"),
    ("S5.second_trips", "trips"),
    ("S5.goodput", "of offered"),
    ("S6.wedges", "circuits"),
    ("S6.leaked_permits", "permits"),
    ("S7.leaf_attempts", "calls"),
];

const FOOTNOTES: &str = "
S3: the backend serves 500 of 1,000 a second and refuses the excess. S3.independent: each call fails with probability
1/2, however few there are; there goodput cannot exceed half of the load.
recovery_s: seconds from the end of the trouble until 95 % succeed for a second; never is not within the run.";

/// What ours has to reach.
#[derive(Clone, Copy)]
pub enum Limit {
    AtMost(f64),
    AtLeast(f64),
}

/// A figure of a subject.
pub struct Row {
    pub name: &'static str,
    subject: &'static str,
    /// `None` is never.
    value: Option<f64>,
    limit: Option<Limit>,
}

impl Row {
    /// `figure` of the scenario that has this place in the table.
    pub fn new(place: &str, figure: &str, subject: &crate::subject::Subject, value: impl Into<Option<f64>>) -> Self {
        let is_it = |name: &str| name.strip_prefix(place).and_then(|rest| rest.strip_prefix('.')) == Some(figure);
        let (name, _) = NAMES.iter().find(|(name, _)| is_it(name)).expect("all figures are listed");
        let limit = if subject.is_ours { limit(name) } else { None };
        Self { name, subject: subject.name, value: value.into(), limit }
    }

    /// Never misses every limit.
    pub fn misses(&self) -> bool {
        self.limit.is_some_and(|limit| match (limit, self.value) {
            (_, None) => true,
            (Limit::AtMost(limit), Some(value)) => value > limit,
            (Limit::AtLeast(limit), Some(value)) => value < limit,
        })
    }
}

fn limit(name: &str) -> Option<Limit> {
    Some(match name {
        "S1.sick_calls" | "S1.sick_calls_after_100000" => Limit::AtMost(75.0),
        "S2.inside.sick_calls" => Limit::AtMost(400.0),
        "S2.outside.sick_calls" => Limit::AtMost(450.0),
        "S3.goodput" => Limit::AtLeast(0.4),
        "S3.load" => Limit::AtMost(0.6),
        "S4.success_late" => Limit::AtLeast(1.0),
        "S4.attempts" => Limit::AtMost(14_200.0),
        "S4.recovery_s" => Limit::AtMost(2.5),
        "S5.herd" => Limit::AtMost(3.0),
        "S5.second_trips" | "S6.wedges" | "S6.leaked_permits" => Limit::AtMost(0.0),
        "S7.leaf_attempts" => Limit::AtMost(3.3),
        _ => return None,
    })
}

/// Where a figure stands in the table.
pub fn place(name: &str) -> usize {
    NAMES.iter().position(|(other, _)| *other == name).expect("all figures are listed")
}

/// One object a line, or a table.
pub fn print(rows: &[Row], json: bool) {
    for row in rows {
        if json { print_json(row) } else { print_line(row) }
    }
    if !json {
        println!("{FOOTNOTES}");
    }
}

fn print_json(row: &Row) {
    let Row { name, subject, value, limit } = row;
    let unit = NAMES[place(name)].1;
    let number = |value: Option<f64>| value.map_or("null".to_owned(), |value| value.to_string());
    let limit = limit.map(|limit| match limit {
        Limit::AtMost(limit) | Limit::AtLeast(limit) => limit,
    });
    let (value, limit) = (number(*value), number(limit));
    println!(r#"{{"name":"{name}","subject":"{subject}","value":{value},"unit":"{unit}","limit":{limit}}}"#);
}

fn print_line(row: &Row) {
    let Row { name, subject, value, limit } = row;
    let unit = NAMES[place(name)].1;
    let decimals = match unit {
        "of offered" => 3,
        "s" => 2,
        _ if *name == "S7.leaf_attempts" => 2,
        _ => 0,
    };
    let value = value.map_or("never".to_owned(), |value| format!("{value:.decimals$}"));
    let limit = match limit {
        Some(Limit::AtMost(limit)) => format!("  (at most {limit})"),
        Some(Limit::AtLeast(limit)) => format!("  (at least {limit})"),
        None => String::new(),
    };
    println!("{name:<28} {subject:<30} {value:>8} {unit}{limit}");
}
