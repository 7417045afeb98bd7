"""The filters that come with aiomilter, configured as users configure them."""
