//! Room `connector`.
