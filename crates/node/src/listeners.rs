//! The listeners of a node and the certificate that they show.

pub(crate) mod certificates;
pub(crate) mod https_redirect;
pub(crate) mod serving;
