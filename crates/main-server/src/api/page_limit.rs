//! The length of a page of a list.

use crate::refusal::RequestError;

const DEFAULT_LIMIT: usize = 100;
const MAX_LIMIT: usize = 1000;

pub(super) fn checked_limit(limit: Option<usize>) -> Result<usize, RequestError> {
    let limit = limit.unwrap_or(DEFAULT_LIMIT);
    match (1..=MAX_LIMIT).contains(&limit) {
        true => Ok(limit),
        false => Err(RequestError::Invalid(format!(
            "limit 应为 1 到 {MAX_LIMIT} / limit must be from 1 to {MAX_LIMIT}"
        ))),
    }
}
