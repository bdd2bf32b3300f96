"""What tests share: clocks, archives, the command as a user runs it."""
