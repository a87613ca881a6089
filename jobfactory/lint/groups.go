package lint

// Groups is the number of runner groups that were taken in, without those of files
// that cannot be read.
func (in *Input) Groups() int { return len(in.jobs) }
