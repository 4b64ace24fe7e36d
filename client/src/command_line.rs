//! What the command-line programs of this crate have in common. Not part of the library.

use std::time::Duration;

/// Where `kvctl` and `kvbench` look when nothing else is said: node1 of the local convention.
pub const DEFAULT_ENDPOINT: &str = "127.0.0.1:7001";

/// The environment variable that takes the place of `--endpoints`.
pub const ENDPOINTS_VARIABLE: &str = "KVCTL_ENDPOINTS";

/// Reads a duration such as `500ms`, `2s`, `1.5s`, `10m` or `1h`.
///
/// # Errors
/// A sentence for the user, if it is none, or has no unit.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let refused =
        || format!("{text:?} is not a duration: give a number and a unit, such as 500ms, 2s, 10m or 1h");
    let unit_at = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .ok_or_else(refused)?;
    let (number, unit) = text.split_at(unit_at);
    let seconds_per_unit = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(refused()),
    };
    let number: f64 = number.parse().map_err(|_| refused())?;
    Duration::try_from_secs_f64(number * seconds_per_unit).map_err(|_| refused())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_number_and_a_unit() {
        let valid = [
            ("500ms", 500),
            ("2s", 2_000),
            ("1.5s", 1_500),
            ("10m", 600_000),
            ("1h", 3_600_000),
        ];
        for (text, milliseconds) in valid {
            assert_eq!(
                parse_duration(text),
                Ok(Duration::from_millis(milliseconds)),
                "{text}"
            );
        }
        for text in [
            "",
            "2",
            "s",
            "-1s",
            "2 s",
            "2d",
            "1.2.3s",
            "9999999999999999999999h",
        ] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}
