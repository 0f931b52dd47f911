package cluster

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	apiwatch "k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
)

// A shelf holds what the API server has of one choice of objects. While the API server is away, it keeps what it had.
type shelf[T metav1.Object] struct {
	changed chan<- struct{} // with room for one

	mu      sync.Mutex
	objects map[string]T
	filled  bool  // whether objects was ever complete
	refused error // that it will never be, unless somebody changes our rights
}

func newShelf[T metav1.Object](changed chan<- struct{}) *shelf[T] {
	return &shelf[T]{changed: changed, objects: make(map[string]T)}
}

// comeback is how an API server that went away is tried: soon, for a session's new pods wait for it.
func comeback() *wait.Backoff {
	return &wait.Backoff{Duration: 200 * time.Millisecond, Factor: 2, Jitter: 0.5, Steps: 10, Cap: 2 * time.Second}
}

// follow fills the shelf and keeps it up to date until ctx ends.
func (s *shelf[T]) follow(ctx context.Context, from *cache.ListWatch, example T) {
	list, watch := from.ListWithContextFunc, from.WatchFuncWithContext
	noted := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (l runtime.Object, err error) {
			l, err = list(ctx, o)
			s.note(err)
			return l, err
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (w apiwatch.Interface, err error) {
			w, err = watch(ctx, o)
			s.note(err)
			return w, err
		},
	}
	quiet := logr.Discard() // its errors are ours to tell, and a loss is no news: whoever has a link sees it first
	options := cache.ReflectorOptions{Logger: &quiet, Backoff: comeback()}
	cache.NewReflectorWithOptions(noted, example, s, options).RunWithContext(klog.NewContext(ctx, quiet))
}

// note keeps the errors that trying again does not cure.
func (s *shelf[T]) note(err error) {
	if !apierrors.IsForbidden(err) && !apierrors.IsUnauthorized(err) && !apierrors.IsNotFound(err) {
		return
	}
	s.mu.Lock()
	s.refused = err
	s.mu.Unlock()
	s.signal()
}

// state returns all objects, whether that is all, and the error if it will never be.
func (s *shelf[T]) state() (objects []T, filled bool, refused error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.filled {
		return slices.Collect(maps.Values(s.objects)), true, nil
	}
	return nil, false, s.refused
}

func (s *shelf[T]) signal() {
	select {
	case s.changed <- struct{}{}:
	default: // whoever reads it will see this change, too
	}
}

// Add is called by the reflector, as the methods below.
func (s *shelf[T]) Add(object any) error {
	o, ok := object.(T)
	if !ok {
		return fmt.Errorf("keep object: %T is not what was asked for", object)
	}
	s.mu.Lock()
	s.objects[o.GetName()] = o
	s.mu.Unlock()
	s.signal()
	return nil
}

// Update is Add.
func (s *shelf[T]) Update(object any) error { return s.Add(object) }

// Delete forgets the object, unless another has its name by now.
func (s *shelf[T]) Delete(object any) error {
	o, ok := object.(T)
	if !ok {
		return fmt.Errorf("forget object: %T is not what was asked for", object)
	}
	s.mu.Lock()
	if there, ok := s.objects[o.GetName()]; ok && there.GetUID() == o.GetUID() {
		delete(s.objects, o.GetName())
	}
	s.mu.Unlock()
	s.signal()
	return nil
}

// Replace starts anew, from a whole list.
func (s *shelf[T]) Replace(list []any, _ string) error {
	objects := make(map[string]T, len(list))
	for _, each := range list {
		o, ok := each.(T)
		if !ok {
			return fmt.Errorf("keep list: %T is not what was asked for", each)
		}
		objects[o.GetName()] = o
	}
	s.mu.Lock()
	s.objects, s.filled = objects, true
	s.mu.Unlock()
	s.signal()
	return nil
}

// Resync does nothing: a shelf derives nothing from its objects.
func (s *shelf[T]) Resync() error { return nil }
