//! Retry: requests that failed by chance are sent again, within a budget.
