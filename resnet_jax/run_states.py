"""The states that a run can be in: one vocabulary for status.json, sweeps and reports."""

# Of status.json.
STATES = ("running", "done", "interrupted", "preempted", "stopped", "diverged", "failed")
# A run without a status.json yet, and, in a report, one whose files cannot be read.
PENDING, UNREADABLE = "pending", "unreadable"
# The run has a result, whatever it is, and is not trained again.
ENDED = ("done", "stopped", "diverged")
# Only `sweep --retry_failed` trains it again.
FINAL = (*ENDED, "failed")
# The same command trains it, or resumes it.
UNFINISHED = ("running", "interrupted", "preempted", PENDING)
# It has no final error.
FAILED = ("diverged", "failed", UNREADABLE)
