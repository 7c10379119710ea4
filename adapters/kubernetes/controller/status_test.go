package controller

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"thole.dev/kubernetes/api"
	"thole.dev/kubernetes/names"
)

// TestTheLongestHistoryFitsIntoAnObject: each of the most incidents says as much as a termination message holds, of characters that
// JSON writes as six. An object that is too large could not be written any more, and the job would stand still for ever.
func TestTheLongestHistoryFitsIntoAnObject(t *testing.T) {
	var s api.JobStatus
	for n := range mostIncidents {
		s.Incidents = append(s.Incidents, api.Incident{Attempt: int64(n), Kind: kindExit, Member: strings.Repeat("m", 120), Node: strings.Repeat("n", 60),
			Cause: cause("x"), Time: metav1.NewMicroTime(time.Now()), Message: strings.Repeat("\x01", 4000), Decision: strings.Repeat("d", 500)})
		shorten(s.Incidents)
	}
	text, err := json.Marshal(s)
	if err != nil || len(text) > 1200<<10 {
		t.Fatalf("%d KiB, %v", len(text)>>10, err)
	}
	if last := s.Incidents[mostIncidents-1]; len(last.Message) != 400 || !strings.HasSuffix(last.Message, "...") {
		t.Error(last.Message)
	}
	t.Logf("%d incidents are %d KiB", len(s.Incidents), len(text)>>10)
}

func TestTextsAreCutBetweenCharacters(t *testing.T) {
	for most := 4; most < 30; most++ {
		if cut := names.Brief(strings.Repeat("ž馬", 10), most); len(cut) > most || !utf8.ValidString(cut) || !strings.HasSuffix(cut, "...") {
			t.Errorf("%d: %q", most, cut)
		}
	}
	if names.Brief("whole", 5) != "whole" {
		t.Error(names.Brief("whole", 5))
	}
}

// TestASentenceIsTheSameOnEveryPlatform: what surrounds it in a pod's condition is left out.
func TestASentenceIsTheSameOnEveryPlatform(t *testing.T) {
	reason, message, found := cutReason("0/3 nodes are available: NoFit: 4 members wait; the largest hole is 512 MiB. " + names.PreemptsNobody)
	if !found || reason != "NoFit" || message != "4 members wait; the largest hole is 512 MiB" {
		t.Error(reason, message, found)
	}
	if reason, message, found := cutReason("0/3 nodes are available: 1 Insufficient cpu. Thole planned it: elsewhere."); found {
		t.Error(reason, message)
	}
}
