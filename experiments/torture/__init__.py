"""What is done to runs that no test has time for; each prints its counts."""
