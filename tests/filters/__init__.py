"""Ten filters as their authors would write them: public names only, each with its tests beside it."""
