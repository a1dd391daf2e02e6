"""What a batch fit is told and tells: settings, sampling, the solver of the fixed effect, the report."""
