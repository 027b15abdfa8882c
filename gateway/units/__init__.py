"""Units as engineers write them: their codes in UCUM and UN/ECE Recommendation 20, and conversion by exact factors."""
