package kube

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
)

const (
	// listTimeout bounds a list; an API server itself gives up after that time. client-go sets no bound.
	listTimeout = time.Minute

	// After a failure the API server is asked again in half to one and a half of these times, the first doubled up
	// to the last; after quiet minutes the first counts again.
	firstWait  = time.Second
	longWait   = 20 * time.Second
	quietAfter = 2 * time.Minute
)

// watch keeps the store equal to what the API server has: one list, then a watch, which is resumed where it
// broke off, and a new list where that is no longer possible (410 Gone).
func (r *watcher) watch(ctx context.Context) {
	var silent klog.Logger // client-go would write each failure to stderr; OnError is told instead
	ctx = klog.NewContext(ctx, silent)
	var told error // by the watch: the reflector goes on by itself after some of them
	get := func(o metav1.ListOptions) *rest.Request {
		o.LabelSelector = discoveryv1.LabelServiceName + "=" + r.target.Service
		return r.client.Get().Namespace(r.target.Namespace).Resource("endpointslices").VersionedParams(&o, metav1.ParameterCodec)
	}
	lw := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			ctx, cancel := context.WithTimeout(ctx, listTimeout)
			defer cancel()
			list := &discoveryv1.EndpointSliceList{}
			return list, get(o).Do(ctx).Into(list)
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.Watch = true
			w, err := get(o).Watch(ctx)
			if err != nil && ctx.Err() == nil {
				told = err
				r.fail(err)
			}
			return w, err
		},
	}
	reflector := cache.NewReflectorWithOptions(cache.ToListWatcherWithWatchListSemantics(lw, listFirst{}),
		&discoveryv1.EndpointSlice{}, r.store, cache.ReflectorOptions{
			Name: r.name, Logger: &silent,
			Backoff: &wait.Backoff{Duration: firstWait / 2, Cap: longWait, Factor: 2, Jitter: 1, Steps: math.MaxInt32},
		})
	wait := backoff{first: firstWait, last: longWait}
	for ctx.Err() == nil {
		began := time.Now()
		// Not RunWithContext: it hands errors to a process-wide handler.
		err := reflector.ListAndWatchWithContext(ctx)
		if err != nil && ctx.Err() == nil && !errors.Is(err, told) {
			r.fail(err)
		}
		if time.Since(began) > quietAfter {
			wait.reset()
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait.next()):
		}
	}
}

// listFirst has the reflector make a plain list before the watch. What it does by itself since client-go 0.35,
// to get the list as a watch, saves an API server memory with lists of many thousands, and is not ended by the
// context between two tries.
type listFirst struct{}

// IsWatchListSemanticsUnSupported is what client-go looks for.
func (listFirst) IsWatchListSemanticsUnSupported() bool { return true }

// fail leaves an error for the publisher; a newer one takes the place of one that it has not read yet. Only the
// goroutine of watch calls it.
func (r *watcher) fail(err error) {
	select {
	case <-r.failed: //nolint:errcheck // the newer one says more
	default:
	}
	r.failed <- err
}

// backoff is what is waited between tries: from first, doubled up to last, each times 0.5 to 1.5.
type backoff struct {
	first, last time.Duration
	now         time.Duration
}

func (b *backoff) next() time.Duration {
	b.now = min(max(b.first, 2*b.now), b.last)
	return b.now/2 + rand.N(b.now)
}

func (b *backoff) reset() { b.now = 0 }
