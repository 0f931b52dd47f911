package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/magpie-k8s/magpie/client"
)

// session is one of them, on all of its pods, as programs read it.
type session struct {
	ID        string           `json:"id"`
	User      string           `json:"user"`
	Host      string           `json:"host"`
	PID       int              `json:"pid"`
	Command   string           `json:"command"`
	Namespace string           `json:"namespace"`
	Pods      []string         `json:"pods"` // none: a session without a pod
	Since     time.Time        `json:"since"`
	Claims    []client.Holding `json:"claims"`
}

// sessionList joins what several agents say of the same sessions.
type sessionList []session

// add takes what the agent beside a pod says.
func (l *sessionList) add(namespace, pod string, running []client.Running) {
	for _, r := range running {
		i := slices.IndexFunc(*l, func(s session) bool { return s.ID == r.ID && s.Namespace == namespace })
		if i < 0 {
			i = len(*l)
			*l = append(*l, session{
				ID: r.ID, User: r.User, Host: r.Host, PID: r.PID, Command: r.Command, Namespace: namespace, Since: r.Since,
				Pods: []string{}, Claims: []client.Holding{},
			})
		}
		(*l)[i].addPod(pod, r)
	}
}

func (s *session) addPod(pod string, r client.Running) {
	if pod != "" {
		s.Pods = append(s.Pods, pod)
	}
	if r.Since.Before(s.Since) {
		s.Since = r.Since
	}
	for _, h := range r.Holdings {
		if !slices.ContainsFunc(s.Claims, func(c client.Holding) bool { return c.Port == h.Port && c.Mode == h.Mode && c.Filter == h.Filter }) {
			s.Claims = append(s.Claims, h)
		}
	}
}

// sorted is the list with the oldest first.
func (l sessionList) sorted() []session {
	for _, s := range l {
		slices.Sort(s.Pods)
		slices.SortFunc(s.Claims, func(a, b client.Holding) int { return cmp.Compare(a.Port, b.Port) })
	}
	slices.SortFunc(l, func(a, b session) int { return cmp.Or(a.Since.Compare(b.Since), strings.Compare(a.ID, b.ID)) })
	return append([]session{}, l...)
}

func listingOf(sessions []session, allNamespaces bool) listing {
	l := listing{header: []string{"ID", "WHO", "PODS", "TAKES", "AGE", "COMMAND"}, wide: 1, values: sessions}
	for _, s := range sessions {
		l.names = append(l.names, s.ID)
		l.rows = append(l.rows, []string{s.ID, s.User + "@" + s.Host, orNone(s.Pods), takes(s.Claims), age(time.Since(s.Since)), s.Command})
	}
	if allNamespaces {
		l = l.inNamespaces(func(i int) string { return sessions[i].Namespace })
	}
	return l
}

// takes says in one column what a session holds.
func takes(claims []client.Holding) string {
	var parts []string
	for _, c := range claims {
		what := "every connection"
		if c.Filter != "" {
			what = c.Filter
		}
		parts = append(parts, fmt.Sprintf("%s %d: %s", c.Mode, c.Port, what))
	}
	if len(parts) == 0 {
		return "nothing"
	}
	return strings.Join(parts, "; ")
}
