//! What a quorum has agreed on: algorithms without state, for plain and joint configurations (thesis 4.3, R28, R58).

mod joint;
mod majority;

pub(crate) use joint::{has_quorum, reached};
