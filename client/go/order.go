package rmgrpc

// submissionOrder holds results back until all before them are there. The server could do so too, but it cannot know where an
// item belongs that is sent again.
type submissionOrder struct {
	held map[int]Result
	next int
}

func newSubmissionOrder() *submissionOrder { return &submissionOrder{held: make(map[int]Result)} }

// take gives the results whose turn has come, now that these are there too.
func (o *submissionOrder) take(results []Result) []Result {
	for _, result := range results {
		o.held[result.Index] = result
	}
	var ready []Result
	for {
		result, ok := o.held[o.next]
		if !ok {
			return ready
		}
		delete(o.held, o.next)
		o.next++
		ready = append(ready, result)
	}
}
