package awssm

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/keyturn/keyturn/rotation"
)

// pageSize is the most that ListSecrets takes (API reference, MaxResults).
const pageSize = 100

// List passes on the pages of ListSecrets, of all secrets of the account and
// region, those that are marked for deletion too. They may be five minutes old
// (API reference, ListSecrets).
func (s *Store) List(ctx context.Context, more func([]rotation.Description) bool) error {
	pages := secretsmanager.NewListSecretsPaginator(s.API, &secretsmanager.ListSecretsInput{
		MaxResults: aws.Int32(pageSize), IncludePlannedDeletion: aws.Bool(true),
	}, func(o *secretsmanager.ListSecretsPaginatorOptions) { o.StopOnDuplicateToken = true })
	for pages.HasMorePages() {
		out, err := pages.NextPage(ctx)
		if err != nil {
			return named(err, "ListSecrets")
		}
		page := make([]rotation.Description, 0, len(out.SecretList))
		for _, entry := range out.SecretList {
			page = append(page, s.description(entry))
		}
		if !more(page) {
			return nil
		}
	}
	return nil
}
