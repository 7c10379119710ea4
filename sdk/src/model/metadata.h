// model/metadata.h: what the kinds have in common.
#pragma once

#include "model/schema.h"

namespace thole::model {

// metadata is as it is in Kubernetes; what is the cluster's own is read and left out, so that what
// `kubectl get -o yaml` prints loads back.
inline constexpr field metadata_fields[] = {
    {.name = "name",
     .what = type::name,
     .doc = "The name. A platform runs one job of a name at a time.",
     .required = true},
    {.name = "labels", .what = type::map, .doc = "Kept as they are."},
    {.name = "annotations", .what = type::map, .doc = "Kept as they are."},
    {.name = "namespace", .what = type::dropped},
    {.name = "uid", .what = type::dropped},
    {.name = "resourceVersion", .what = type::dropped},
    {.name = "generation", .what = type::dropped},
    {.name = "generateName", .what = type::dropped},
    {.name = "creationTimestamp", .what = type::dropped},
    {.name = "deletionTimestamp", .what = type::dropped},
    {.name = "deletionGracePeriodSeconds", .what = type::dropped},
    {.name = "managedFields", .what = type::dropped},
    {.name = "ownerReferences", .what = type::dropped},
    {.name = "finalizers", .what = type::dropped},
    {.name = "selfLink", .what = type::dropped},
};

inline constexpr field api_version_field = {
    .name = "apiVersion", .doc = "`thole.dev/v1alpha1`.", .required = true, .most = 64};
inline constexpr field kind_field = {.name = "kind", .doc = "What the file describes.", .required = true, .most = 64};
inline constexpr field metadata_field = {
    .name = "metadata", .what = type::object, .doc = "As in Kubernetes.", .required = true, .fields = metadata_fields};
inline constexpr field status_field = {.name = "status", .what = type::dropped};

}  // namespace thole::model
