// SPDX-License-Identifier: GPL-3.0-or-later
#include <gtest/gtest.h>
#include <pwd.h>
#include <sys/types.h>

#include <cstring>
#include <vector>

#include "bus-agent/bus.h"
#include "bus-agent/outcome.h"
#include "config.h"

namespace mandos::bus_agent {
namespace {

constexpr guint32 kChecker = 103;
constexpr guint32 kSomebody = 1000;
constexpr guint32 kGroup = 112;
const Access kAccess{.refused = {kChecker, 104}, .group = kGroup, .users = {{kSomebody, "alice"}}};

/// The daemon's reply about a caller of that user and those groups.
Variant about(guint32 user, std::vector<guint32> groups, guint32 process = 0) {
  GVariantBuilder facts;
  g_variant_builder_init(&facts, G_VARIANT_TYPE_VARDICT);
  g_variant_builder_add(&facts, "{sv}", "UnixUserID", g_variant_new_uint32(user));
  g_variant_builder_add(&facts, "{sv}", "UnixGroupIDs",
                        g_variant_new_fixed_array(G_VARIANT_TYPE_UINT32, groups.data(),
                                                  groups.size(), sizeof(guint32)));
  if (process != 0) {
    g_variant_builder_add(&facts, "{sv}", "ProcessID", g_variant_new_uint32(process));
  }
  return own(g_variant_new("(a{sv})", &facts));
}

TEST(Authority, RootAndTheGroupMayChange) {
  const Variant root = about(0, {});
  EXPECT_TRUE(judge(root.get(), kAccess).may_change);
  const Variant member = about(kSomebody, {7, kGroup});
  EXPECT_TRUE(judge(member.get(), kAccess).may_change);
  EXPECT_EQ(judge(member.get(), kAccess).user, kSomebody);
}

TEST(Authority, WhoCallsIsNamedForTheLog) {
  EXPECT_EQ(judge(about(kSomebody, {kGroup}, 4711).get(), kAccess).who,
            "user alice (1000), process 4711");
  EXPECT_EQ(judge(about(1001, {kGroup}, 4711).get(), kAccess).who, "user 1001, process 4711");
  EXPECT_EQ(judge(about(kSomebody, {kGroup}).get(), kAccess).who, "user alice (1000)");
  // Of the accounts that there are, at least root is known by name.
  EXPECT_EQ(find_access().users.at(0), "root");
}

TEST(Authority, OthersMayReadWhereThePolicyLetsThem) {
  const Variant other = about(kSomebody, {7});
  EXPECT_TRUE(judge(other.get(), kAccess).may_read);
  EXPECT_FALSE(judge(other.get(), kAccess).may_change);
  // Without the group nobody is a member, whatever number stands for none.
  const Variant of_root = about(kSomebody, {0});
  EXPECT_FALSE(judge(of_root.get(), {.refused = {}, .group = 0, .users = {}}).may_change);
}

TEST(Authority, OurOwnAccountsHaveNoneEvenInTheGroup) {
  for (const guint32 user : kAccess.refused) {
    const Variant ours = about(user, {kGroup});
    EXPECT_FALSE(judge(ours.get(), kAccess).may_read);
    EXPECT_FALSE(judge(ours.get(), kAccess).may_change);
  }
}

// An account that cannot be found now may be found by whoever calls as it in a moment.
TEST(Authority, IsRootsAloneUntilAllAccountsToRefuseAreKnown) {
  const Access all = find_access([](const char* name) -> passwd* {
    static passwd user{};
    user.pw_uid = kChecker + static_cast<uid_t>(std::strlen(name));
    return &user;
  });
  EXPECT_EQ(all.missing, "");
  EXPECT_EQ(all.refused.size(), 3U);
  for (const char* const unknown : {MANDOS_CHECKER_USER, MANDOS_NETWORKER_USER, MANDOS_BUS_USER}) {
    static const char* missing = nullptr;
    missing = unknown;
    Access access = find_access([](const char* name) -> passwd* {
      static passwd user{};
      return std::strcmp(name, missing) == 0 ? nullptr : &user;
    });
    EXPECT_EQ(access.missing, unknown);
    access.group = kGroup;
    const Variant member = about(kSomebody, {kGroup});
    EXPECT_FALSE(judge(member.get(), access).may_read);
    EXPECT_FALSE(judge(member.get(), access).may_change);
    access.refused = {kChecker};
    const Variant root = about(0, {});
    EXPECT_TRUE(judge(root.get(), access).may_read);
    EXPECT_TRUE(judge(root.get(), access).may_change);
  }
}

TEST(Authority, WhoCannotBeNamedHasNone) {
  GVariantBuilder nothing_known;
  g_variant_builder_init(&nothing_known, G_VARIANT_TYPE_VARDICT);
  const Variant nobody = own(g_variant_new("(a{sv})", &nothing_known));
  const Variant nonsense = own(g_variant_new("(s)", "root"));
  for (GVariant* reply : {nobody.get(), nonsense.get()}) {
    EXPECT_FALSE(judge(reply, kAccess).may_read);
    EXPECT_FALSE(judge(reply, kAccess).may_change);
  }
}

}  // namespace
}  // namespace mandos::bus_agent
