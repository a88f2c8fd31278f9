//! Errors as people read them.

use std::error::Error;

/// An error with its causes, in one sentence, without those that only repeat the one above.
pub(crate) fn sentence(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let why = cause.to_string();
        if !text.contains(&why) {
            text = format!("{text}: {why}");
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Layer {
        text: &'static str,
        #[source]
        cause: Option<Box<Layer>>,
    }

    #[test]
    fn causes_are_told_once_and_in_order() {
        let layers = ["the store cannot be used", "the store cannot be used", "db", "disk full"];
        let chain = layers.into_iter().rev().fold(None, |cause, text| Some(Box::new(Layer { text, cause })));
        assert_eq!(sentence(&*chain.unwrap()), "the store cannot be used: db: disk full");
    }
}
