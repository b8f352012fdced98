//! Text in the format "flowed" (RFC 3676): lines that end with a blank go on in the next one.

/// Joins the lines of `text`. With `del_sp` the blank at a line's end was put there by the format and goes.
pub(super) fn unfold(text: &str, del_sp: bool) -> String {
    let mut out = String::with_capacity(text.len());
    let mut going_on: Option<usize> = None;
    for line in text.split_inclusive('\n') {
        let content = line.strip_suffix('\n').unwrap_or(line);
        let words = content.trim_start_matches('>');
        let depth = content.len() - words.len();
        let words = words.strip_prefix(' ').unwrap_or(words);
        if going_on != Some(depth) || words == "-- " {
            if !out.is_empty() {
                out.push('\n');
            }
            mark(&mut out, depth);
        }
        // The line above a signature ends with a blank and does not flow.
        let flows = words.ends_with(' ') && words != "-- ";
        out.push_str(if flows && del_sp { words.strip_suffix(' ').unwrap_or(words) } else { words });
        going_on = flows.then_some(depth);
    }
    if text.ends_with('\n') {
        out.push('\n');
    }
    out
}

fn mark(out: &mut String, depth: usize) {
    out.extend(std::iter::repeat_n('>', depth));
    if depth > 0 {
        out.push(' ');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lines_are_joined_within_one_depth() {
        assert_eq!(unfold("one \ntwo\n three\n", false), "one two\nthree\n");
        assert_eq!(unfold("> a \n> b\n>> c \nd", false), "> a b\n>> c \nd");
        assert_eq!(unfold("a \nb", true), "ab");
        assert_eq!(unfold("bye \n-- \nme", false), "bye \n-- \nme");
        assert_eq!(unfold("a\n\nb\n", false), "a\n\nb\n");
    }

    proptest! {
        #[test]
        fn no_words_are_lost(text in "[a-c \n]{0,60}") {
            let words = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<String>();
            prop_assert_eq!(words(&unfold(&text, false)), words(&text));
        }
    }
}
