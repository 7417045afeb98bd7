"""What is played to pymilter and to ours."""
