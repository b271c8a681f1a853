"""What a person sees of a study: one html file that needs no network. Neither torch nor ray."""
