//! Start, watch and cancel the work items of a plan and report events.
