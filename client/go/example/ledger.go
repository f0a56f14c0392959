package main

import (
	"sort"
	"strconv"
	"sync"
)

// ledger knows which items of an id have no result yet.
type ledger struct {
	mu     sync.Mutex
	owed   map[string]map[int]struct{}
	length int
}

func newLedger() *ledger { return &ledger{owed: make(map[string]map[int]struct{})} }

// sent notes the next item, before it is sent: its result may be quick.
func (l *ledger) sent(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if id == "" {
		id = strconv.Itoa(l.length)
	}
	if l.owed[id] == nil {
		l.owed[id] = make(map[int]struct{})
	}
	l.owed[id][l.length] = struct{}{}
	l.length++
}

func (l *ledger) settled(id string, index int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.owed[id], index)
	if len(l.owed[id]) == 0 {
		delete(l.owed, id)
	}
}

// open gives the positions of the items of that id.
func (l *ledger) open(id string) []int {
	l.mu.Lock()
	defer l.mu.Unlock()
	var indices []int
	for index := range l.owed[id] {
		indices = append(indices, index)
	}
	sort.Ints(indices)
	return indices
}
