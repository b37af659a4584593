"""What selftests share and pytest does not give them."""
