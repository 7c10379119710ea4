/* thole/thole.h: every stable header. Drafts are included one by one, after #define THOLE_ENABLE_DRAFT. */
#ifndef THOLE_THOLE_H
#define THOLE_THOLE_H

#include <thole/base.h>
#include <thole/checkpoint.h>
#include <thole/core.h>
#include <thole/gang.h>
#include <thole/plugin.h>
#include <thole/reasons.h>
#include <thole/status.h>

#endif
