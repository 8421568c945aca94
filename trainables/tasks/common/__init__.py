"""What tasks share: the contract, metrics of whole sets, captions, boxes and letters."""
