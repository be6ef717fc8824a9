#!/bin/sh
# Checks what Keyturn's events rest on: a CloudTrail trail that records this
# region's management events, writes among them, and is logging. It needs the AWS
# CLI and cloudtrail:DescribeTrails, GetTrailStatus, GetEventSelectors. With an
# argument it looks at that trail alone (deploy.trail of keyturn.yaml).
set -eu

region=${AWS_REGION:-${AWS_DEFAULT_REGION:-$(aws configure get region)}}
trails=${1:-$(aws cloudtrail describe-trails --region "$region" --query "trailList[?HomeRegion=='$region' || IsMultiRegionTrail].TrailARN" --output text)}
for trail in $trails; do
	[ "$trail" != None ] || continue
	logging=$(aws cloudtrail get-trail-status --region "$region" --name "$trail" --query IsLogging --output text)
	simple=$(aws cloudtrail get-event-selectors --region "$region" --trail-name "$trail" \
		--query "length(EventSelectors[?IncludeManagementEvents && ReadWriteType!='ReadOnly'] || \`[]\`)" --output text)
	advanced=$(aws cloudtrail get-event-selectors --region "$region" --trail-name "$trail" \
		--query "length(AdvancedEventSelectors[?FieldSelectors[?Field=='eventCategory' && contains(Equals, 'Management')]] || \`[]\`)" --output text)
	if [ "$logging" = True ] && [ "$simple$advanced" != 00 ]; then
		echo "$trail records the management events of $region"
		exit 0
	fi
done
echo "keyturn: no CloudTrail trail records the management events of $region: what others do to secrets would go unseen" >&2
echo "hint: aws cloudtrail create-trail --is-multi-region-trail …, start-logging, and put-event-selectors with management events" >&2
exit 1
