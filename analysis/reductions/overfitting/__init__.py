"""Which betas at which batch size: the rules of the study, fixed before its recorded runs, and what they say."""
