"""What there is: what centrals publish, how it is found, who fetches it, and whose claims do not hold."""
