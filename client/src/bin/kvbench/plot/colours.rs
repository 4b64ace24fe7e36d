//! Colours by role. Plots are drawn in placeholders, which become CSS variables, so that one picture serves light and dark.

use plotters::style::RGBColor;

/// What something is drawn as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Text,
    Grid,
    /// The background, behind labels.
    Paper,
    /// One of the compared things; there are three colours.
    Series(usize),
}

/// The variables for both schemes. The colours of series differ in lightness too, for those who see fewer hues.
pub(crate) const STYLE: &str = "\
:root{color-scheme:light dark;--paper:#fff;--text:#24292f;--grid:#d8dee4;--series-0:#1f6fc4;--series-1:#c4581a;--series-2:#168a68}
@media(prefers-color-scheme:dark){:root{--paper:#14181d;--text:#d7dee6;--grid:#333b44;--series-0:#6cb0f5;--series-1:#f0a06a;--series-2:#4cc9a0}}
";

const SERIES: usize = 3;

/// That of [`Role::Text`].
pub(super) static TEXT: RGBColor = RGBColor(1, 1, 1);

impl Role {
    pub(super) fn colour(self) -> RGBColor {
        match self {
            Role::Text => TEXT,
            Role::Grid => RGBColor(1, 1, 2),
            Role::Paper => RGBColor(1, 1, 3),
            Role::Series(place) => RGBColor(1, 2, (place % SERIES) as u8),
        }
    }

    fn variable(self) -> String {
        match self {
            Role::Text => "var(--text)".to_owned(),
            Role::Grid => "var(--grid)".to_owned(),
            Role::Paper => "var(--paper)".to_owned(),
            Role::Series(place) => format!("var(--series-{place})"),
        }
    }
}

/// Puts the variables in the place of what was drawn.
pub(super) fn themed(svg: &str) -> String {
    let roles = [Role::Text, Role::Grid, Role::Paper];
    let roles = roles.into_iter().chain((0..SERIES).map(Role::Series));
    roles.fold(svg.to_owned(), |svg, role| {
        let RGBColor(red, green, blue) = role.colour();
        svg.replace(&format!("#{red:02X}{green:02X}{blue:02X}"), &role.variable())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_role_becomes_a_variable_that_the_style_defines_twice() {
        for role in [
            Role::Text,
            Role::Grid,
            Role::Paper,
            Role::Series(0),
            Role::Series(2),
        ] {
            let RGBColor(red, green, blue) = role.colour();
            let svg = format!("<line stroke=\"#{red:02X}{green:02X}{blue:02X}\"/>");
            let variable = role.variable();
            assert_eq!(themed(&svg), format!("<line stroke=\"{variable}\"/>"));
            let name = variable.trim_start_matches("var(").trim_end_matches(')');
            assert_eq!(STYLE.matches(&format!("{name}:")).count(), 2, "{name}");
        }
    }
}
