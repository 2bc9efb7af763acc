//! Whom a client wants: addresses, backoff, reconciliation.
