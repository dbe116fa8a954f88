"""From predictions and judgements to differences with intervals, verdicts and power."""
