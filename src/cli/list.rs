//! Options with several values, which a variable holds in one text.

use super::Failure;

/// The values of an option that may be given several times, or of its variable, in which commas
/// separate them. A comma in a value of the option is part of it.
pub(super) struct List {
    pub(super) values: Vec<String>,
    /// The variable that the values are from, unless they are the option's.
    variable: Option<&'static str>,
}

impl List {
    /// Returns the values of the option if there are any, and else those of the variable.
    ///
    /// # Errors
    /// The caller's, if the variable is not text.
    pub(super) fn read(given: Vec<String>, variable: &'static str) -> Result<List, Failure> {
        if !given.is_empty() {
            return Ok(List { values: given, variable: None });
        }
        let text = std::env::var_os(variable).unwrap_or_default();
        match text.into_string() {
            Ok(text) => Ok(List::of_variable(variable, &text)),
            Err(_) => Err(Failure::Caller(format!("{variable} is not UTF-8 text"))),
        }
    }

    /// Splits the text of a variable. An empty one has no values.
    fn of_variable(variable: &'static str, text: &str) -> List {
        let values = if text.is_empty() { Vec::new() } else { text.split(',').collect() };
        List { values: values.into_iter().map(str::to_owned).collect(), variable: Some(variable) }
    }

    /// Refuses the first value in which `fault` finds one. A value from the variable is not shown:
    /// it may be a piece of a URL that has a comma, and the piece a secret.
    ///
    /// # Errors
    /// The caller's, with the name of the option or the variable.
    pub(super) fn check(
        &self,
        option: &str,
        shown: impl Fn(&str) -> String,
        fault: impl Fn(&str) -> Option<String>,
    ) -> Result<(), Failure> {
        for (at, value) in self.values.iter().enumerate() {
            let Some(fault) = fault(value) else { continue };
            return Err(Failure::Caller(match self.variable {
                None => format!("--{option}: `{}` {fault}", shown(value)),
                Some(variable) => format!(
                    "{variable}: value {} of {} {fault}; commas separate the values: give one \
                     that has a comma with --{option}",
                    at + 1,
                    self.values.len()
                ),
            }));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_text_of_a_variable_is_split() {
        for (text, expected) in
            [("", &[][..]), ("a", &["a"]), ("a,b", &["a", "b"]), ("a,", &["a", ""])]
        {
            assert_eq!(List::of_variable("V", text).values, expected, "{text}");
        }
        let given = List::read(vec!["http://h/?t=a,b".into(), "c".into()], "V").ok().unwrap();
        assert_eq!(given.values, ["http://h/?t=a,b", "c"]);
    }
}
